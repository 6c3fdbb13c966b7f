"""What intake counts. Labels have few values: codes and dispositions, never ids."""

from prometheus_client import Counter, Gauge, Histogram

WEBHOOKS = Counter("hub_intake_webhooks", "Webhook requests, by what became of them", ["disposition", "code"])
EVENTS = Counter("hub_intake_zalo_events", "Signed webhooks, by event name of the catalogue", ["event_name"])
REPEATS = Counter("hub_intake_webhook_repeats", "Webhooks that Zalo marked as sent again")
ODD_FIELDS = Counter(
    "hub_intake_odd_fields", "Members of signed webhooks that were left out for their shape", ["field"]
)
ACK_SECONDS = Histogram(
    "hub_intake_ack_seconds",
    "From the first byte of a webhook to its answer, seconds; Zalo waits 2",
    ["kept_in"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0),
)
SPOOL_DEPTH = Gauge("hub_intake_spool_events", "Events in the spool that wait for Kafka")
SPOOL_OLDEST_SECONDS = Gauge("hub_intake_spool_oldest_seconds", "Age of the oldest event in the spool, seconds")
RELAYED = Counter("hub_intake_relayed_events", "Events relayed from the spool", ["outcome"])
ATTACHMENTS = Counter("hub_intake_attachments", "Attachments, by outcome of an attempt", ["outcome"])
