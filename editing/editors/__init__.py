"""One file = one method = one paper. What methods share: `zsearch`, `keys`, `band`, `one_fact`.

An editor is a generator `edit(view, requests, hparams, history)`: it yields a Step after each
piece of work and returns an Outcome. Seen from outside it is pure; between two steps the model
serves, bit for bit, what it served before.
"""
