# Test sets whose ground truth is public: J&F here, and in training.
_base_ = './jointformer.py'

val_dataloader = {{_base_.test_dataloader}}
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='VOSMetric')
test_evaluator = val_evaluator
