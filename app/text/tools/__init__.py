"""Tool calls: functions that a request offers, and the text in which a model calls them.

`spec` is what a request offers and asks for, `formats` how families of models write calls,
`grammar` holds the text to that form and the arguments to the functions' schemas, and `reader`
reads the calls out of the text as it grows. The model is told of the functions by its chat
template (`app/text/chat_template.py`).
"""
