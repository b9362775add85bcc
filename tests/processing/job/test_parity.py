"""Online equals offline: the features that the API used for a payment are, bit for bit, those of the Spark job.

Payments are replayed in the order of their times through the API's path: state from the store, features, decision,
record; labels are reported as feedback when they become known. Now and then the feature job refreshes the store. Its
data may include payments that the API never saw, and labels that nobody reported.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_job import bring_up_to_date, with_reports
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from pipeline.data.transactions import as_dataset
from processing.contract import Contract
from processing.contracts.reader import parse
from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, SECOND_US
from processing.features.feature_set import FeatureSet
from processing.features.table_features import compute_rows, window_states
from processing.job.features import compute_features
from processing.job.spark import start_spark
from processing.storage.spark_files import read_parquet
from processing.store.decisions import Event
from processing.store.refresh import Source, refresh_store
from processing.store.refresh_data import Reports
from processing.store.sqlite.schema import fact
from processing.store.sqlite.store import SqliteStore
from processing.tables.schemas import TIME, transaction_schema
from serving.decision.decider import Decider
from serving.decision.loaded_model import LoadedModel

BEGIN = 490_000  # hours since 1970
TEXT = """
name = "parity"
numeric = ["distance"]
categorical = { channel = ["chip", "online"] }
[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"
[label]
delay_days = DELAY
[[entity]]
name = "card"
column = "card_no"
windows_days = [1, 2]
[[entity]]
name = "shop"
column = "shop_no"
windows_days = [1, 3]
fraud_windows_days = [1, 2]
[[entity]]
name = "visitor"
columns = ["card_no", "shop_no"]
windows_days = [1, 2]
fraud_windows_days = [2]
"""
TILES = (
    TEXT[: TEXT.index("[[entity]]")]
    + """
[[entity]]
name = "card"
column = "card_no"
windows = ["10m", "6h", "1d", "13d"]
fraud_windows = ["2h", "1d"]
aggregates = ["amount", "extremes", "recency", "share:channel", "distinct:shop_no", "last:distance"]
[[entity]]
name = "shop"
column = "shop_no"
windows = ["5m", "1h", "30d"]
fraud_windows = ["1d", "30d"]
busy = true
[[entity]]
name = "visitor"
columns = ["card_no", "shop_no"]
windows = ["2d"]
aggregates = ["recency"]
[[feature]]
name = "above_largest"
is = "amount / card.amount_max_13d"
"""
)
DELAYED, AT_ONCE, TILED, TILED_AT_ONCE = (
    parse(text.replace("DELAY", str(days))) for text in (TEXT, TILES) for days in (1, 0)
)


@dataclass(frozen=True)
class Payment:
    """A transaction of the stream, and how its label becomes known."""

    time_us: int
    card: str
    shop: str
    cents: int
    fraud: int
    in_file: bool = False  # the file has its label before anybody reports it
    mistaken: bool = False  # the wrong label is reported first
    distance: float | None = None
    channel: str | None = None
    id: str = ""

    @property
    def event(self) -> Event:
        extras = (("distance", self.distance), ("channel", self.channel))
        return Event(self.id, self.time_us, self.cents, (self.card, self.shop), extras)


def in_order(payments: list[Payment]) -> list[Payment]:
    ordered = sorted(payments, key=lambda payment: payment.time_us)
    return [Payment(**{**vars(payment), "id": f"p{i}"}) for i, payment in enumerate(ordered)]


def table_of(payments: list[Payment], labels: list[int | None], contract: Contract) -> pa.Table:
    """The payments as accepted transactions."""
    rows = [
        {"transaction_id": p.id, "event_time": p.time_us, "amount_minor": p.cents, "is_fraud": label}
        | {"card": p.card, "shop": p.shop, "distance": p.distance, "channel": p.channel}
        for p, label in zip(payments, labels, strict=True)
    ]
    schema = transaction_schema(contract)
    plain = pa.schema([f.with_type(pa.int64()) if f.type == TIME else f for f in schema])
    return pa.Table.from_pylist(rows, plain).cast(schema)


# A refresh of the store, from the payments in the data, their labels, and the reports that the labels include.
Refresh = Callable[[SqliteStore, list[Payment], list[int | None], Reports], None]


@dataclass
class Replay:
    """The API's side: payments decided in order, labels reported once they are known."""

    contract: Contract
    folder: Path
    decided: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = FeatureSet(self.contract)
        self.store = SqliteStore(self.folder / "store.sqlite", self.contract)
        self.decider = Decider(self.features, self.store)
        self.model = LoadedModel("v", 0.5, self.contract, self.features, lambda rows: np.full(len(rows), 0.25), {})
        self.waiting: list[Payment] = []  # decided, but the true label is not yet known

    def pay(self, payment: Payment) -> None:
        self.report_known(payment.time_us)
        extras = self.features.encode({"distance": [payment.distance], "channel": [payment.channel]}, 1)
        self.decided[payment.id] = self.decider.decide(payment.event, extras, self.model).features
        if payment.mistaken:
            self.decider.report(payment.id, not payment.fraud)
        self.waiting.append(payment)

    def report_known(self, now_us: int) -> None:
        """Report the labels that are known by now."""
        delay = self.contract.label_delay_days * DAY_US
        while self.waiting and self.waiting[0].time_us + delay <= now_us:
            payment = self.waiting.pop(0)
            self.decider.report(payment.id, bool(payment.fraud))

    def refresh(self, data: list[Payment], until_us: int, refresh: Refresh) -> None:
        """A run of the job; labels that become known before `until_us` are reported while it runs."""
        reports = self.store.reports()
        labels: list[int | None] = []
        for payment in data:
            reported = reports.labels.get(payment.id)
            own = payment.fraud if payment.in_file or payment.id not in self.decided else None
            labels.append(own if reported is None else int(reported))
        self.report_known(until_us)
        refresh(self.store, data, labels, reports)


def replayed(
    folder: Path, contract: Contract, payments: list[Payment], cuts: list[int], unseen: set[int], refresh: Refresh
) -> dict[str, bytes]:
    """The features of every payment that the API decided.

    `cuts` divide the stream into stretches. Those whose numbers are in `unseen` are in the files only; the API sees the
    others. The job runs after each stretch but the last.
    """
    replay = Replay(contract, folder)
    edges = [0, *cuts, len(payments)]
    for number, (start, end) in enumerate(pairwise(edges)):
        for payment in payments[start:end]:
            if number not in unseen:
                replay.pay(payment)
        if 0 < end < len(payments):
            replay.refresh(payments[:end], payments[end].time_us, refresh)
    replay.store.close()
    return replay.decided


def without_spark(contract: Contract) -> Refresh:
    """The job's refresh without Spark, for many small streams."""

    def refresh(store: SqliteStore, data: list[Payment], labels: list[int | None], reports: Reports) -> None:
        rows = {payment.event: label for payment, label in zip(data, labels, strict=True)}
        bring_up_to_date(store, rows, data[-1].event.hour, contract, reports=reports)

    return refresh


def kernel_features(contract: Contract, payments: list[Payment]) -> dict[str, bytes]:
    """All features at once, without Spark."""
    features, labels = FeatureSet(contract), [payment.fraud for payment in payments]
    rows = table_of(payments, labels, contract)
    values = compute_rows(features, rows, window_states(features, rows))
    return {payment.id: row.tobytes() for payment, row in zip(payments, values, strict=True)}


# Few days, hours and moments, so that ties and the edges of hours are common.
moments = st.builds(
    lambda day, hour, inside: (BEGIN + 24 * day + hour) * HOUR_US + inside,
    st.integers(0, 5),
    st.sampled_from([0, 1, 2, 23]),
    st.sampled_from([0, 1, SECOND_US, FIVE_MINUTES_US, HOUR_US // 2, HOUR_US - 1]),
)
payments = st.builds(
    Payment,
    time_us=moments,
    card=st.sampled_from(["a", "a,b"]),  # a,b,c is the text of two pairs
    shop=st.sampled_from(["c", "b,c"]),
    cents=st.sampled_from([0, 1, 99, 10_000_000]) | st.integers(0, 10_000_000),
    fraud=st.integers(0, 1),
    in_file=st.booleans(),
    mistaken=st.booleans(),
    distance=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    channel=st.sampled_from([None, "chip", "online", "pigeon"]),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([DELAYED, AT_ONCE, TILED, TILED_AT_ONCE]),
    st.lists(payments, min_size=1, max_size=25).map(in_order),
    st.lists(st.integers(0, 25), max_size=3),
    st.sets(st.integers(0, 3)),
)
def test_every_decision_uses_the_features_that_the_kernel_computes(
    tmp_path_factory: pytest.TempPathFactory,
    contract: Contract,
    stream: list[Payment],
    places: list[int],
    unseen: set[int],
) -> None:
    cuts = sorted({min(place, len(stream)) for place in places} - {0, len(stream)})
    unseen = unseen - {len(cuts)}
    online = replayed(tmp_path_factory.mktemp("replay"), contract, stream, cuts, unseen, without_spark(contract))
    offline, names = kernel_features(contract, stream), FeatureSet(contract).names
    for place, payment in enumerate(stream):
        if payment.id in online:
            used, computed = (np.frombuffer(features[payment.id]) for features in (online, offline))
            assert used.tobytes() == computed.tobytes(), (place, *zip(names, used, computed, strict=True))
    assert len(online) == sum(
        end - start for number, (start, end) in enumerate(pairwise([0, *cuts, len(stream)])) if number not in unseen
    )


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory, partitions: int) -> SparkSession:
    session = start_spark(tmp_path_factory.mktemp("spark"), cores="2")
    session.conf.set("spark.sql.codegen.wholeStage", "false")  # compiling takes longer than running here
    session.conf.set("spark.sql.shuffle.partitions", str(partitions))
    return session  # other modules go on using it; it ends with the process


def many_streams(streams: int, length: int, seed: int) -> list[Payment]:
    """Streams without common entities, merged by time, so that Spark computes them all at once."""
    random, quoted = np.random.default_rng(seed), ["", ' "é", ']
    payments = []
    for stream in range(streams):
        hours = random.integers(0, 24, 4)  # each stream has its own hours
        for _ in range(length):
            hour = BEGIN + 24 * random.integers(0, 7) + random.choice(hours)
            inside = random.choice([0, 1, HOUR_US // 2, HOUR_US - 1, random.integers(0, HOUR_US)])
            payments.append(
                Payment(
                    time_us=int(hour * HOUR_US + inside),
                    card=f"{stream}{random.choice(quoted)}",
                    shop=f"{random.choice(quoted)}{stream}",
                    cents=int(random.choice([0, 10_000_000, random.integers(0, 10_000), random.integers(0, 10_000)])),
                    fraud=int(random.random() < 0.3),
                    in_file=bool(random.random() < 0.5),
                    mistaken=bool(random.random() < 0.1),
                    distance=None if random.random() < 0.2 else float(random.normal()),
                    channel=[None, "chip", "online", "pigeon"][random.integers(0, 4)],
                )
            )
    return in_order(payments)


def in_spark(
    spark: SparkSession,
    folder: Path,
    payments: list[Payment],
    labels: list[int | None],
    contract: Contract,
    tasks: int = 0,
) -> tuple[DataFrame, Callable[[], dict[str, bytes]]]:
    """The payments as a DataFrame, and a function that computes their features as the job does."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    pq.write_table(table_of(payments, labels, contract), path)
    rows = read_parquet(spark, [str(path)], transaction_schema(contract))
    tasks = tasks or int(spark.conf.get("spark.sql.shuffle.partitions") or 0)

    def features() -> dict[str, bytes]:
        days = {payment.time_us // DAY_US for payment in payments}
        target = f"{path}-features"
        compute_features(rows, contract, days, tasks).write.parquet(target)
        table = pq.read_table(target)
        values = np.column_stack([table[name].to_numpy() for name in FeatureSet(contract).names])
        return {key: row.tobytes() for key, row in zip(table["transaction_id"].to_pylist(), values, strict=True)}

    return rows, features


STREAM = many_streams(200, 30, seed=1)


@pytest.fixture(scope="module", params=[DELAYED, TILED], ids=["days", "tiles"])
def contract(request: pytest.FixtureRequest) -> Contract:
    contract: Contract = request.param
    return contract


@pytest.fixture(scope="module")
def offline(spark: SparkSession, contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    labels: list[int | None] = [payment.fraud for payment in STREAM]
    return in_spark(spark, tmp_path_factory.mktemp("all"), STREAM, labels, contract)[1]()


@pytest.mark.spark
class TestWithSpark:
    """Hundreds of streams in one computation, compared with what the job writes."""

    @pytest.mark.slow
    def test_every_decision_uses_the_features_that_the_job_computes(
        self, spark: SparkSession, contract: Contract, offline: dict[str, bytes], tmp_path: Path
    ) -> None:
        """The job runs twice, each time in the middle of an hour; payments between the runs are in files only."""

        def refresh(store: SqliteStore, data: list[Payment], labels: list[int | None], reports: Reports) -> None:
            rows, _ = in_spark(spark, tmp_path / "data", data, labels, contract)
            refresh_store(store, Source(rows, rows, ""), reports, tmp_path)

        cuts = [len(STREAM) // 2, len(STREAM) * 3 // 4]
        for cut in cuts:
            assert STREAM[cut - 1].event.hour == STREAM[cut].event.hour
        online = replayed(tmp_path, contract, STREAM, cuts, {1}, refresh)
        assert len(online) == len(STREAM) * 3 // 4
        assert [key for key, features in online.items() if features != offline[key]] == []

    def test_later_transactions_and_labels_change_no_features(
        self, spark: SparkSession, contract: Contract, offline: dict[str, bytes], tmp_path: Path
    ) -> None:
        """Labels that become known after the delay are later ones."""
        past = STREAM[: len(STREAM) * 2 // 3]
        now = past[-1].time_us
        known = [p.fraud if p.time_us + contract.label_delay_days * DAY_US <= now else None for p in past]
        features = in_spark(spark, tmp_path, past, known, contract)[1]()
        assert len(features) == len(past)
        assert [key for key, row in features.items() if row != offline[key]] == []

    def test_benchmarks_compute_the_same_features_without_spark(
        self, contract: Contract, offline: dict[str, bytes]
    ) -> None:
        labels: list[int | None] = [payment.fraud for payment in STREAM]
        rows = as_dataset(table_of(STREAM, labels, contract), contract, "the stream")
        assert len(rows.ids) == len(offline)
        for key, row in zip(rows.ids, rows.X, strict=True):
            assert np.array_equal(row, np.frombuffer(offline[key]), equal_nan=True)

    @pytest.mark.slow
    @pytest.mark.parametrize("tasks", [1, 4, 20])
    def test_features_do_not_depend_on_the_number_of_tasks(
        self, spark: SparkSession, contract: Contract, tmp_path: Path, tasks: int
    ) -> None:
        """There is one shop, so all tasks but one have no rows."""
        payments = [replace(payment, shop="the only one") for payment in STREAM[:300]]
        labels: list[int | None] = [payment.fraud for payment in payments]
        features = in_spark(spark, tmp_path / "data", payments, labels, contract, tasks)[1]()
        rows = as_dataset(table_of(payments, labels, contract), contract, "the payments")
        assert len(features) == len(payments)
        for key, row in zip(rows.ids, rows.X, strict=True):
            assert np.array_equal(row, np.frombuffer(features[key]), equal_nan=True)

    @pytest.mark.slow
    def test_a_few_future_rows_do_not_move_the_horizon_and_decisions_that_the_tables_lack_stay_counted(
        self, spark: SparkSession, contract: Contract, tmp_path: Path
    ) -> None:
        """The refresh in Spark equals the one without Spark, which test_counted compares with a model."""
        past = STREAM[: len(STREAM) // 2]
        newest = past[-1].time_us
        ahead = [replace(p, id=f"ahead {p.id}", time_us=newest + 20 * HOUR_US) for p in past[:5]]
        lacking = past[-900::3]  # decided but in no file; some are after the horizon
        other = replace(past[-1000], id="other", cents=7)  # decided with another amount than the data has
        data = [p for p in past if p not in lacking] + [*ahead, replace(other, cents=8)]
        apis = []
        for name in ("spark", "plain"):
            (tmp_path / name).mkdir()
            apis.append(Replay(contract, tmp_path / name))
            for payment in [*past[-1200:], other]:
                apis[-1].pay(replace(payment, mistaken=False))
            for payment in [*lacking[:10], other]:
                apis[-1].decider.report(payment.id, True)
        first, second = (api.store for api in apis)
        labels = with_reports(dict.fromkeys((p.event for p in data), None), first.reports())
        rows, _ = in_spark(spark, tmp_path / "data", data, list(labels.values()), contract)
        now = datetime.fromtimestamp((newest + 2 * DAY_US) / 1e6, UTC)
        assert refresh_store(first, Source(rows, rows, ""), first.reports(), tmp_path, now=now) > 0
        with first.connections.reading() as db:
            horizon = fact(db, "horizon")
        assert newest - DAY_US < horizon * HOUR_US <= newest
        bring_up_to_date(second, labels, horizon, contract)
        probes = [replace(p, time_us=(horizon + hours) * HOUR_US + 5) for p in past[-300:] for hours in (0, 1, 22, 49)]
        for probe in probes:
            assert first.recall(probe.event)[1] == second.recall(probe.event)[1]

    @pytest.mark.slow
    def test_a_refresh_of_what_changed_equals_one_of_everything(
        self, spark: SparkSession, contract: Contract, tmp_path: Path
    ) -> None:
        """A day of payments is new, one has another amount, some get a label, and a card has none left."""
        middle = len(STREAM) * 2 // 3
        gone, now = STREAM[7].card, datetime.fromtimestamp((STREAM[-1].time_us + DAY_US) / 1e6, UTC)
        before = STREAM[:middle]
        after = [
            replace(p, cents=p.cents + 1) if p.id == before[-50].id else p
            for p in STREAM[: middle + 100]
            if p.card != gone
        ]
        relabelled = {p.id for p in before[-200::20]}
        labels_before: list[int | None] = [p.fraud for p in before]
        labels_after: list[int | None] = [1 - p.fraud if p.id in relabelled else p.fraud for p in after]
        old, _ = in_spark(spark, tmp_path / "data", before, labels_before, contract)
        new, _ = in_spark(spark, tmp_path / "data", after, labels_after, contract)
        changed = old.exceptAll(new).unionAll(new.exceptAll(old))
        stores = [SqliteStore(tmp_path / f"{name}.sqlite", contract) for name in ("changed", "whole")]
        for store in stores:
            refresh_store(store, Source(old, old, "old"), store.reports(), tmp_path, now=now)
        some, whole = (
            refresh_store(store, source, store.reports(), tmp_path, now=now)
            for store, source in zip(
                stores, (Source(new, new, "new", {"old": changed}.get), Source(new, new, "new")), strict=True
            )
        )
        assert 0 < some < whole / 2
        for payment in STREAM[::5]:
            probe = replace(payment, id="probe", time_us=max(payment.time_us, after[-1].time_us)).event
            assert stores[0].recall(probe)[1] == stores[1].recall(probe)[1]
