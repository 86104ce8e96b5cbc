"""Official DEQDet checkpoints: their key names and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion, Rule, apply_rules, strip_module

_RULES: tuple[Rule, ...] = (
    # Left behind by the stock head that the official one inherits from; never called.
    Rule(r'(.*bbox_head\.\d+\.)instance_interactive_conv(_norm)?\..*', None),
    Rule(r'(.*)\.attention\.attn\.(.*)', r'\1.attention.\2'),
    Rule(r'(.*)\.sampling_n_mixing\.sampling_offset_generator\.0\.(.*)', r'\1.sampling_offset.\2'),
    Rule(
        r'(.*)\.sampling_n_mixing\.adaptive_mixing\.parameter_generator\.0\.(.*)', r'\1.mixing.parameter_generator.\2'
    ),
    Rule(r'(.*)\.sampling_n_mixing\.adaptive_mixing\.out_proj\.(.*)', r'\1.mixing.out_proj.\2'),
    Rule(r'(.*)\.sampling_n_mixing\.norm\.(.*)', r'\1.mixing_norm.\2'),
    Rule(r'(.*)mlvl_weight_generator\.0\.(.*)', r'\1mlvl_weight_generator.\2'),
)


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights under official names to ours; weights that already have our names pass unchanged."""
    return apply_rules(strip_module(state_dict), _RULES)
