"""The process around the service: its socket, its logs, its threads, its signals and its end."""
