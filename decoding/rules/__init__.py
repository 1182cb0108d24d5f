"""What a request's adjustments say of one row: which tokens move, fall out or must come.

One file each, plain token ids and numbers, no torch; `decoding.adjuster` compiles a request's rules
and `decoding.processors.adjust` carries them out.
"""
