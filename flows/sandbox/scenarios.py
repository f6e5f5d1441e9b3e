"""
Bundles of knobs with a name: kinds of days that a client should live through.
"""

from collections.abc import Mapping
from typing import Any

BUSY = {"kind": "status", "status": 503, "body": "empty"}
SCENARIOS: Mapping[str, Mapping[str, Any]] = {
    "rush-hour": {
        # Waits as published for a busy day, the lowest tier, and now and then no answer but 503.
        "latency": 1.5,
        "real_time_factor": 0.3,
        "wallet_lag": 20.0,
        "concurrency_limit": 5,
        "faults": [{**BUSY, "rate": 0.1}],
    },
    "flaky": {
        "latency": 0.2,
        "faults": [
            {"kind": "status", "status": 500, "rate": 0.05},
            {"kind": "status", "status": 502, "body": "html", "rate": 0.05},
            {"kind": "reset", "rate": 0.05},
            {"kind": "truncate", "rate": 0.05},
            {"kind": "tiny", "rate": 0.03},
            {"kind": "empty", "rate": 0.03},
            {"kind": "silence", "rate": 0.02},
            {"kind": "status", "status": 503, "body": "empty", "path": "/model", "rate": 0.1},
        ],
    },
    "broke": {"credit": "0.01", "wallet_lag": 20.0},
    "stuck-training": {"training": "never"},
    # From the fourth request on nothing works for a minute.
    "outage": {"faults": [{**BUSY, "path": "/", "after": 3, "lasts": 60.0}]},
}
"""What each bundle sets; everything else keeps its default."""
