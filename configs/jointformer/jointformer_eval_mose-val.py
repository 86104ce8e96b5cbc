# MOSE valid: masks for the server.
_base_ = './_base_/jointformer.py'

model = dict(test_cfg=dict(max_memory_frames=3, topk=dict(k=180)))
test_dataloader = dict(dataset=dict(type='MOSEDataset', data_root='data/MOSE', split='valid'))
test_evaluator = dict(type='VOSMetric', layout='mose', format_only=True, outfile_prefix='results/jointformer/mose-val')
