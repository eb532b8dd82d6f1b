"""What slots, processors and memory cost, for those who want to see money beside seconds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

_Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class PriceSettings(BaseModel):
    """Of `Settings`."""

    price_slot_second: _Price = Field(default=0.0, description="the price of a second of a slot; 0: none")
    price_cpu_second: _Price = Field(default=0.0, description="the price of a second of a processor; 0: none")
    price_gb_second: _Price = Field(
        default=0.0, description="the price of 10^9 bytes of an attempt's peak memory for a second; 0: none"
    )
    currency: str = Field(default="", max_length=8, pattern=r"^[^\x00-\x1f]*$", description="of the prices, for people")
