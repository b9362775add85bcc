"""`fraudline benchmark serving`: what a request costs, beside the least it could cost and beside others' servers."""
