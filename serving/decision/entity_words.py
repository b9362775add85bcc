"""How the features of an entity read in words. `processing.features.entity_features` defines them."""

from collections.abc import Iterator

from processing.contract import Contract, Entity
from processing.features.tiles import MOST_DISTINCT
from serving.decision.sentence_parts import (
    Description,
    Span,
    Subject,
    Words,
    ago,
    money_of,
    noun,
    plural,
    unless_missing,
)


def entity_descriptions(contract: Contract, entity: Entity) -> dict[str, Description]:
    """The descriptions of an entity's features, by feature name."""
    words = _EntityWords(contract, entity)
    described = (*words.amounts(), *words.frauds(), *words.others())
    return {f"{entity.name}_{name}": Description(f"{entity.name} {topic}", text) for name, topic, text in described}


class _EntityWords:
    """Each method yields features without the entity's name: name, topic, words."""

    def __init__(self, contract: Contract, entity: Entity) -> None:
        self.entity, self.subject, self.money = entity, Subject(contract, entity), money_of(contract)
        self.spans = [Span(window) for window in entity.windows]
        self.fraud_spans = [Span(window) for window in entity.fraud_windows]

    def amounts(self) -> Iterator[tuple[str, str, Words]]:
        for span in self.spans:
            yield f"count_{span.text}", "count", self._count(span)
            yield f"mean_amount_{span.text}", "amount", self._mean(span)
            yield f"amount_ratio_{span.text}", "amount", self._ratio(span)
            yield f"amount_zscore_{span.text}", "amount", self._zscore(span)
            yield f"amount_variation_{span.text}", "amount", self._variation(span)
            yield f"amount_trend_{span.text}", "amount", self._trend(span)

    def frauds(self) -> Iterator[tuple[str, str, Words]]:
        for span in self.fraud_spans:
            yield f"fraud_count_{span.text}", "fraud", self._fraud_count(span)
            yield f"fraud_rate_{span.text}", "fraud", self._fraud_rate(span)
            yield f"fraud_mean_amount_{span.text}", "fraud", self._fraud_mean(span)
            for which in ("first", "last"):
                yield f"hours_since_{which}_fraud_{span.text}", "fraud", self._since_fraud(span, which)
            yield f"count_since_last_fraud_{span.text}", "fraud", self._passed(span)

    def others(self) -> Iterator[tuple[str, str, Words]]:
        longest = self.spans[-1]
        yield "hours_since_last", "recency", self._since("last transaction")
        yield f"hours_since_first_{longest.text}", "recency", self._since(f"first transaction in {longest.words}")
        for span in self.spans:
            yield f"amount_min_{span.text}", "amount", self._extreme("smallest", span)
            yield f"amount_max_{span.text}", "amount", self._extreme("largest", span)
        for aggregate in self.entity.aggregates:
            for column in aggregate.columns:
                if aggregate.kind == "last":
                    yield f"last_{column}", column, self._last(column)
                for span in self.spans:
                    if aggregate.kind == "share":
                        yield f"share_{column}_{span.text}", column, self._share(column, span)
                    if aggregate.kind == "distinct":
                        yield f"distinct_{column}_{span.text}", column, self._distinct(column, span)

    def _count(self, span: Span) -> Words:
        def words(value: float) -> str:
            if value == 1.0:
                return f"{self.subject.has('first transaction')} in {span.words}"
            return f"{value:,.0f} transactions of {self.subject.this} in {span.words}"

        return words

    def _mean(self, span: Span) -> Words:
        return lambda value: f"{self.subject.has(f'mean amount {self.money(value)}')} over {span.words}"

    def _ratio(self, span: Span) -> Words:
        return unless_missing(
            self._no_earlier("amount", span),
            lambda value: f"amount {value:,.1f}x {self.subject.has(f'{span.adjective} mean')}",
        )

    def _zscore(self, span: Span) -> Words:
        return unless_missing(
            f"at most one earlier transaction of {self.subject.this} in {span.words}",
            lambda value: (
                f"amount {abs(value):,.1f} standard deviations {'above' if value >= 0 else 'below'} "
                f"{self.subject.has(f'{span.adjective} mean')}"
            ),
        )

    def _variation(self, span: Span) -> Words:
        return unless_missing(
            f"at most one earlier amount of {self.subject.this} in {span.words}",
            lambda value: f"{self.subject.has('amounts')} over {span.words} vary by {100 * value:,.0f} % of their mean",
        )

    def _trend(self, span: Span) -> Words:
        return unless_missing(
            f"nothing to compare {self.subject.has('latest amounts')} with in {self.spans[-1].words}",
            lambda value: f"{self.subject.has('mean amount')} over {span.words} is {value:,.1f}x that of {span.before}",
        )

    def _extreme(self, which: str, span: Span) -> Words:
        return unless_missing(
            self._no_earlier("amount", span),
            lambda value: f"{self.subject.has(f'{which} earlier amount {self.money(value)}')} in {span.words}",
        )

    def _since(self, what: str) -> Words:
        return unless_missing(
            self._no_earlier("transaction", self.spans[-1]), lambda value: f"{self.subject.has(what)} was {ago(value)}"
        )

    def _share(self, column: str, span: Span) -> Words:
        return unless_missing(
            self._no_earlier("transaction", span),
            lambda value: (
                f"{100 * value:.3g} % of {self.subject.has('earlier transactions')} in {span.words} "
                f"had the same {noun(column)}"
            ),
        )

    def _distinct(self, column: str, span: Span) -> Words:
        def words(value: float) -> str:
            count = f"more than {MOST_DISTINCT}" if value > MOST_DISTINCT else f"{value:.0f}"
            what = noun(column) if value == 1.0 else plural(noun(column))
            return f"{count} different {what} in {self.subject.has('earlier transactions')} over {span.words}"

        return words

    def _last(self, column: str) -> Words:
        what, where = noun(column), f"at {self.subject.has('last transaction')}"
        return unless_missing(f"{what} unknown {where}", lambda value: f"{what} {value:g} {where}")

    def _no_earlier(self, what: str, span: Span) -> str:
        return f"no earlier {what} of {self.subject.this} in {span.words}"

    def _fraud_count(self, span: Span) -> Words:
        return lambda value: (
            f"{value:,.0f} known fraud{'' if value == 1.0 else 's'} {self.subject.at} over {span.words}"
        )

    def _fraud_rate(self, span: Span) -> Words:
        return lambda value: (
            f"{self.subject.has(f'fraud rate {100 * value:.3g} %').removeprefix('this ')} over {span.words}"
        )

    def _fraud_mean(self, span: Span) -> Words:
        return unless_missing(
            self._no_fraud(span),
            lambda value: f"known frauds {self.subject.at} had a mean amount of {self.money(value)} over {span.words}",
        )

    def _since_fraud(self, span: Span, which: str) -> Words:
        """In whole days, the time since the fraud itself; otherwise since it became known."""
        what = f"{which} known fraud {self.subject.at} in {span.words}"
        if self.entity.whole_days:
            return unless_missing(self._no_fraud(span), lambda value: f"{what} was {value / 24:,.0f} days ago")
        return unless_missing(self._no_fraud(span), lambda value: f"{what} became known {ago(value)}")

    def _passed(self, span: Span) -> Words:
        return unless_missing(
            self._no_fraud(span),
            lambda value: f"{value:,.0f} transactions {self.subject.at} after {self.subject.its} last known fraud",
        )

    def _no_fraud(self, span: Span) -> str:
        return f"no known fraud {self.subject.at} over {span.words}"
