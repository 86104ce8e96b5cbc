# BURST test: masks, from which the json of its toolkit (HOTA) is made.
_base_ = './_base_/jointformer.py'

model = dict(test_cfg=dict(max_memory_frames=3, topk=dict(k=30)))
test_dataloader = dict(dataset=dict(type='BURSTDataset', data_root='data/BURST', split='test'))
test_evaluator = dict(type='VOSMetric', format_only=True, outfile_prefix='results/jointformer/burst-test')
