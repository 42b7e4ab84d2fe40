"""Stock clients under one roof: `centrifuge` of npm in Node and in Chromium, `centrifuge-python` in this process."""
