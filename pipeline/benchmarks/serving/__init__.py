"""`fraudline benchmark serving`: the cost of a request, compared with the least possible and with other servers."""
