r"""What a shop's pages and apps talk to: FastAPI in front of a model server and an event store.

Example::

    python -m serving.gateway --config pipeline/configs/complete_journey.yaml

    curl 'localhost:8080/v1/recommend?user_id=1&k=5'
    curl localhost:8080/v1/events -H 'content-type: application/json' \
        -d '{"event_id": "4f1c-0001", "user_id": "1", "event_type": "click", "item_id": "1082185"}'

In the room: one folder a domain (`recommend`, `search`, `items`, `events`, `users`, `operations`), each with
`router`, `schemas` and `service`; `lists` is what the domains that show lists share. `services` holds what is
made once, `app.create_app` puts it together, `middleware` and `keys` stand before all of it. It imports
`schema`, `serving.client`, `serving.store` and `serving.experiments`.
"""
