"""All queries, a file a resource. Repositories know tables, never rules."""
