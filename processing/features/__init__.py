"""Features: windows over hours, and the exact values that follow from them."""
