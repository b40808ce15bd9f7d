"""The node probe: one program that is sent to a host and answers with one JSON document.

`build.program()` bundles this package (without what only the operator's side uses), `acceptance.errors` and pynvml
into one source text for `sudo -n python3 -I -`. Nothing is installed on the node and no file is written there. What
is sent runs under Python 3.8 or later with the standard library alone.
"""
