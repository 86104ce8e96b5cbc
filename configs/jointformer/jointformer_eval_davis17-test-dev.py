# DAVIS 2017 test-dev: masks for the server.
_base_ = './_base_/jointformer.py'

test_dataloader = dict(dataset=dict(type='DAVISDataset', data_root='data/DAVIS/2017/test-dev', split='test-dev'))
test_evaluator = dict(type='VOSMetric', format_only=True, outfile_prefix='results/jointformer/davis17-test-dev')
