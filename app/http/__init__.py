"""What surrounds the routes: middleware, dependencies, event streams, and clients that hang up."""
