"""The dashboard's rows, a module for each thing to look at. `board.py` puts them in order."""
