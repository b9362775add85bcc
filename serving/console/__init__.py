"""The console: pages of the API for the people who look after it, at `/`.

Nothing here is imported by a request for a score; Jinja is loaded when the first page is asked for.
"""
