# YouTube-VOS 2018 valid on all frames: masks for the server.
_base_ = './_base_/jointformer.py'

model = dict(test_cfg=dict(max_memory_frames=3, topk=dict(k=120)))
test_dataloader = dict(
    dataset=dict(type='YouTubeVOSDataset', data_root='data/YouTubeVOS/2018', split='valid', all_frames=True)
)
test_evaluator = dict(
    type='VOSMetric', layout='youtube_vos', format_only=True, outfile_prefix='results/jointformer/ytvos18-val'
)
