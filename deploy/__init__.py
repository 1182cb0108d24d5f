"""Ways to run the service that are more than one process. Each folder explains itself.

* `ray`: replicas as an application of Ray Serve, on one machine or many.
"""
