# VISOR val by the measures of DAVIS; the published numbers are of VISOR's own toolkit.
_base_ = './_base_/scored.py'

model = dict(test_cfg=dict(topk=dict(k=600)))
test_dataloader = dict(dataset=dict(type='VISORDataset', data_root='data/VISOR', split='val'))
val_dataloader = test_dataloader
