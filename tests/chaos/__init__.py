"""A soak that kills what can be killed, and a ledger outside of it that knows what became of every task.

`python -m tests.chaos --minutes 30 --broker redis --seed 7`; test_soak.py runs a short form.
"""
