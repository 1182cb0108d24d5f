"""What a service would run on and how it could be faster: the inside of `beamline doctor`.

`machine` looks at the hardware and its limits, `trial` loads the model as a start would, `advice`
says what to change. The command shows it.
"""
