"""Pure functions over score rows, vectorised: one file each, and `chain`, which applies them.

Each takes `scores` [rows, vocab] float32 and one parameter value a row, and returns new scores;
a dropped token becomes -inf. What a row gets depends on that row alone, bit for bit.
"""
