"""Traces: one message is one trace, from the webhook to the send.

The trace id *is* the correlation id (both are 128 bits), so the whole story of a message is found by it without a
search. Spans are kept in MongoDB for `hub case show` and, where `OTEL_EXPORTER_OTLP_ENDPOINT` is set, go to any
OpenTelemetry collector as well. Between services the context travels as `traceparent` (W3C) in the Kafka headers.
Attributes are ids, codes and counts; never a text, a name or a number of a person.

Source: ADR 0009.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from prometheus_client import Counter

from shared.errors import StoreUnavailable
from shared.mongo import Document, Store, insert_new

SPANS_DROPPED = Counter("hub_spans_dropped", "Spans that were not kept: the database was away too long", ["service"])

MAX_WAITING_SPANS = 20_000
FLUSH_SECONDS = 1.0
FLUSH_SPANS = 1_000
TRACEPARENT = "traceparent"

Attributes = Mapping[str, str | int | float | bool]
_parents: ContextVar[dict[str, SpanContext]] = ContextVar("trace_parents", default={})  # noqa: B039 - never mutated


class SpanKeeper(SpanProcessor):
    """Collects finished spans of this process and writes them in batches; loses them rather than memory."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._waiting: deque[Document] = deque()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span."""
        context = span.get_span_context()
        if context is None or span.start_time is None or span.end_time is None:
            return
        if len(self._waiting) >= MAX_WAITING_SPANS:
            SPANS_DROPPED.labels(self._service).inc()
            return
        self._waiting.append(
            {
                "_id": f"{context.trace_id:032x}-{context.span_id:016x}",
                "trace_id": f"{context.trace_id:032x}",
                "span_id": f"{context.span_id:016x}",
                "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
                "service": self._service,
                "name": span.name,
                "started_at": datetime.fromtimestamp(span.start_time / 1e9, UTC),
                "started_ns": span.start_time,
                "duration_ms": round((span.end_time - span.start_time) / 1e6, 3),
                "attributes": dict(span.attributes or {}),
            }
        )

    async def keep(self, store: Store) -> None:
        """Write what was collected, every second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush(store)

    async def flush(self, store: Store) -> None:
        """Write what was collected; keeps it for the next time when the database is away."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(FLUSH_SPANS, len(self._waiting)))]
            try:
                await insert_new(store["trace_spans"], batch)
            except StoreUnavailable:
                self._waiting.extendleft(reversed(batch))
                return


class Tracing:
    """The tracer of one service.

    Args:
        service: its name.
        sample_ratio: share of the messages whose traces are kept; 0 keeps none.
    """

    def __init__(self, service: str, *, sample_ratio: float) -> None:
        self.keeper = SpanKeeper(service)
        # Sampling by trace id: every service takes the same messages, so a trace is whole or absent.
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(sample_ratio),
            resource=Resource.create({SERVICE_NAME: service}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self.keeper)
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("binh-yen")

    @contextmanager
    def span(
        self,
        name: str,
        correlation_id: str,
        *,
        traceparent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        started_ns: int | None = None,
        attributes: Attributes | None = None,
    ) -> Iterator[None]:
        """Measure a step of one message's story; what is published inside becomes its child.

        Args:
            name: a fact or a verb phrase with the object, such as `zalo.send`.
            correlation_id: 32 hex digits; the trace id.
            traceparent: of the Kafka record that led here.
            kind: OpenTelemetry's kind.
            started_ns: epoch nanoseconds, for a step that began earlier.
            attributes: ids, codes, counts.
        """
        parent = _parents.get().get(correlation_id) or _parse(traceparent, correlation_id)
        if parent is None:
            yield
            return
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(NonRecordingSpan(parent)),
            kind=kind,
            start_time=started_ns or time.time_ns(),
            attributes=dict(attributes or {}),
        )
        token = _parents.set({**_parents.get(), correlation_id: span.get_span_context()})
        try:
            yield
        finally:
            _parents.reset(token)
            span.end()

    @contextmanager
    def spans(self, name: str, origins: Mapping[str, str | None], *, attributes: Attributes) -> Iterator[None]:
        """Measure a step that many messages take together: one span in each one's trace.

        Args:
            name: of each span.
            origins: traceparent by correlation id.
            attributes: of each span.
        """
        spans = {}
        for correlation_id, traceparent in origins.items():
            if (parent := _parse(traceparent, correlation_id)) is not None:
                spans[correlation_id] = self._tracer.start_span(
                    name,
                    context=trace.set_span_in_context(NonRecordingSpan(parent)),
                    kind=SpanKind.CONSUMER,
                    attributes=dict(attributes),
                )
        token = _parents.set({**_parents.get(), **{key: span.get_span_context() for key, span in spans.items()}})
        try:
            yield
        finally:
            _parents.reset(token)
            for span in spans.values():
                span.end()

    def close(self) -> None:
        """Send what the collector exporter still holds."""
        self._provider.shutdown()


@cache
def tracing_of(service: str) -> Tracing:
    """The one tracer of a service in this process; `OTEL_TRACES_SAMPLER_ARG` is the share of messages kept (1.0)."""
    return Tracing(service, sample_ratio=float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", "1.0")))


def traceparent_of(correlation_id: str) -> str | None:
    """The W3C header for what is published now in this message's story; None outside of any span."""
    context = _parents.get().get(correlation_id)
    if context is None:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _parse(traceparent: str | None, correlation_id: str) -> SpanContext | None:
    """The parent's context; a story without one begins at a virtual root whose id is made of the trace id."""
    try:
        trace_id = int(correlation_id, 16)
    except ValueError:
        return None
    if len(correlation_id) != 32 or trace_id == 0:
        return None
    parts = (traceparent or "").split("-")
    if len(parts) == 4 and parts[1] == correlation_id:
        try:
            return SpanContext(trace_id, int(parts[2], 16), is_remote=True, trace_flags=TraceFlags(int(parts[3], 16)))
        except ValueError:
            pass  # a broken header costs the link to the parent, nothing else
    root = (trace_id & 0xFFFF_FFFF_FFFF_FFFF) or 1
    return SpanContext(trace_id, root, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
