"""The model's side of a trial: calls of model servers, the ledger of these calls, preflight and embedded servers."""
