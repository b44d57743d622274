"""Submissions: results that users publish in the reference set, their checks, and the collection of all of them."""
