"""The ground floor: what every other room agrees on. It imports nothing of ours and no TensorFlow.

In the room: `config` (one shop's configuration), `names` (features, inputs, outputs, signatures),
`events` (an event, a user's state), `reasons` (why an item is shown), `errors` (what a user can put
right), and one folder a shop of reviewed table schemas (README.md).
"""
