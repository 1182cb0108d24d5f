"""The commands of `beamline`, a file each; `app/cli.py` puts them together.

A command reads its options, refuses what cannot work in one clean line, and hands over. What loads
torch is imported once it is needed, so that `--help` and mistakes are answered at once.
"""
