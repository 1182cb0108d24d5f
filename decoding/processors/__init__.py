"""Pure functions over score rows, vectorised: one file each.

`adjust` carries out what requests ask of their rows, `chain` the filters that strategies ask for.

Each takes `scores` [rows, vocab] float32 and one parameter value a row, and returns new scores;
a dropped token becomes -inf. What a row gets depends on that row alone, bit for bit.
"""
