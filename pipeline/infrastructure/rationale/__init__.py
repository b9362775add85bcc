"""The service rationale, a Word document: which AWS services were chosen for what, and why.

`rationale.txt` is the text, in Markdown with {names} of figures; `figures` takes those from the stack's template and
the bill, `picture` draws the architecture, `document` puts it together. `python -m pipeline.infrastructure.rationale`
writes it.
"""
