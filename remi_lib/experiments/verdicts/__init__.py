"""The verdicts: what each notebook's tables say about its claims.

A module per notebook; each function takes a ledger and tables that the notebook publishes, and
trains nothing.  No module that computes imports one of these, so that the wording of a claim
changes no stored result.
"""
