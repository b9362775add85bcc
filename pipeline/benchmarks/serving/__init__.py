"""`fraudline benchmark serving`: the cost of a request, beside the least possible and beside other servers."""
