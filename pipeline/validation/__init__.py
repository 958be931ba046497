"""Validation: `validate` scores labelled recordings with a `scorer`; `metrics`, `rates` and `report` say how well."""
