"""What each notebook's tables say about its claims.

No module that computes imports one of these: the wording of a claim changes no stored result.
"""
