"""The packed scorer: a model as flat arrays, how it is packed and proven, and what each feature contributes."""
