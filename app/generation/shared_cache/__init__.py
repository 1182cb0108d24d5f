"""The second tier of the response cache: answers in a Redis that replicas share.

`tier.py` (`SharedCache`) is what the generator and the lifespan see. Behind it `digest.py` names an
answer, `entry.py` writes it as bytes that prove themselves, `redis_store.py` speaks to Redis,
`breaker.py` leaves a Redis alone that does not answer, `patience.py` bounds how long anybody waits
for it, `backlog.py` does in the background what nobody waits for, and `counts.py` counts;
`building.py` makes it all of the settings.

Whatever Redis does costs a miss: never a request, and never another answer than the engine's.
"""
