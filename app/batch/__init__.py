"""Many requests from a file to a file, without a server.

`lines` makes requests of the lines of the one, `answers_file` keeps the other whole, and `run`
answers in order with a bounded number under way. `app/commands/generate.py` is the command.
"""
