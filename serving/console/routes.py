"""The console's pages. They come after the API's routes, which are tried first."""

from serving.console import decision_table, documentation, model_pages, overview, run_pages, scoring_pages, sign_in

ROUTERS = (
    overview.router,
    decision_table.router,
    scoring_pages.router,
    model_pages.router,
    run_pages.router,
    documentation.router,
    sign_in.router,
)
