"""The service rationale, a Word document: which AWS services were chosen, and why.

`rationale.txt` is the text, in Markdown with {names} of figures. `figures` reads those from the stack's template and
the bill, `diagram` draws the architecture, and `document` has pandoc make the file with the styles of
`reference.docx`.
"""
