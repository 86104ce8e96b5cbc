# LVOS test: masks for the server.
_base_ = './_base_/jointformer.py'

model = dict(test_cfg=dict(max_memory_frames=3, topk=dict(k=120)))
test_dataloader = dict(dataset=dict(type='LVOSDataset', data_root='data/LVOS', split='test'))
test_evaluator = dict(type='VOSMetric', layout='lvos', format_only=True, outfile_prefix='results/jointformer/lvos-test')
