"""What the deployed system costs a month, by service, and what the obvious alternatives would cost.

Amounts come from the volumes that a user gives, from the sizes of the deployed stack and from assumptions; prices come
from `prices.toml`. Free tiers are not deducted, so small bills come out lower.
"""
