"""A conversation in a terminal, with a model in this process or behind a URL.

`conversation` holds what was said and how to answer, `slash_commands` changes it, `partner` says
what answers (`local_partner`, `remote_partner`), `terminal` reads and shows, `loop` joins them.
"""
