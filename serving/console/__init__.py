"""The console: the API's pages for people, at `/`.

No scoring request imports anything here that takes time; Jinja is imported when the first page is requested.
"""
