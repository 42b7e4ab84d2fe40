"""The service as it is seen by clients nobody here wrote.

`centrifuge` of npm in two versions, in Node and in a headless Chromium, and `centrifuge-python`.  npm brings the
JavaScript ones into build/, the versions and checksums are in tests/support/clients/package-lock.json.  Without Node or
Chromium their tests are skipped, and in CI they fail.  Each test runs with each client that can do what it is about; a
happening is the same `Event` whoever tells it (tests/support/clients/stock.py).
"""
