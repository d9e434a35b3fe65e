"""Routes: a signature, a docstring that Swagger shows, and one call to a service."""
