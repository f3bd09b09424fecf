"""The core library: tensors in, deltas out. It knows no HTTP, queue, database or environment.

The porch (`request`, `hparams`, `catalogue`, `source`, `step`, `errors`) needs only the standard
library, so that the API can validate every order without loading torch.
"""
