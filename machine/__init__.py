"""What this process may use of the machine: memory and cores, within its container's limits.

`control_groups` finds the groups that a process is in; `memory` and `cores` read limits in them.
The lowest of our packages: `app`, `engine` and `optimize` ask it, and it imports nothing of ours.
"""
