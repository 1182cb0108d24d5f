"""Structured output: the text follows a JSON schema, a regex, a choice or a grammar.

`spec` is what a request asks for, `compiler` makes a grammar of it for the served tokenizer with
llguidance, off the event loop and off the engine, and `constraint` tells the engine token by token
what may follow.
"""
