"""The pages to score a transaction by hand and to report what one turned out to be."""

import asyncio
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from processing.contract import Contract
from processing.errors import FraudlineError
from serving.api.context import Context
from serving.api.problems import field_errors, status_of
from serving.api.responses import Feedback, score_response
from serving.console import form
from serving.console.pages import page_router, read_form, render

router = page_router()


@router.get("/console/score")
def score_form(request: Request, context: Context) -> Response:
    """The form of a transaction, filled with an example."""
    return render(request, "score.html", **_form_values(context.contract))


@router.post("/console/score")
async def score(request: Request, context: Context) -> Response:
    """Decide the transaction of the form."""
    contract, typed = context.contract, await read_form(request)
    try:
        transaction = context.transaction_model.model_validate(form.transaction_of(contract, typed))
        answer = await context.decide(transaction)
    except ValidationError as error:
        errors = {each.field: each.message for each in field_errors(error.errors(include_url=False))}
        values = _form_values(contract, typed, errors=errors, problem="Not scored; correct the marked fields.")
        return await asyncio.to_thread(render, request, "scoring.html", 422, **values)
    except FraudlineError as error:
        status = status_of(error)
        if status is None:
            raise
        values = _form_values(contract, typed, problem=f"Not scored: {error}")
        return await asyncio.to_thread(render, request, "scoring.html", status, **values)
    if contract.id:
        typed[contract.id] = form.new_id()
    recorded = answer.behaviour == "known"
    values = _form_values(contract, typed, answer=score_response(answer), recorded=recorded)
    return await asyncio.to_thread(render, request, "scoring.html", **values)


@router.get("/console/feedback")
def feedback_form(request: Request) -> Response:
    """The page to report a transaction by its id."""
    return render(request, "feedback.html")


@router.post("/console/feedback")
async def feedback(request: Request, context: Context) -> Response:
    """Record the label of a transaction."""
    typed = await read_form(request)
    is_fraud = {"true": True, "false": False}.get(typed.get("is_fraud", ""))
    values = {"transaction_id": typed.get("transaction_id", ""), "is_fraud": is_fraud}
    try:
        report = Feedback.model_validate(values)
    except ValidationError as error:
        (first, *_) = field_errors(error.errors(include_url=False))
        return await asyncio.to_thread(render, request, "problem.html", 422, problem=first.message)
    recorded = await context.record_feedback(report)
    return await asyncio.to_thread(render, request, "label.html", decision=recorded, announce=True)


def _form_values(contract: Contract, typed: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"errors": {}, "problem": "", "answer": None, "recorded": False}
    return {"fields": form.inputs(contract, typed), **defaults, **values}
