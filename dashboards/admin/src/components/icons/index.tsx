import type { ReactNode, SVGProps } from "react";

type IconProps = Omit<SVGProps<SVGSVGElement>, "children"> & { size?: number };

/** Line icons drawn for this app on a 24-unit grid. They always stand beside words, so they are hidden from readers. */
function icon(paths: ReactNode) {
  return function Icon({ size = 16, ...rest }: IconProps) {
    return (
      <svg
        width={size}
        height={size}
        viewBox="0 0 24 24"
        fill="none"
        stroke="currentColor"
        strokeWidth={2}
        strokeLinecap="round"
        strokeLinejoin="round"
        aria-hidden="true"
        focusable="false"
        style={{ flex: "none" }}
        {...rest}
      >
        {paths}
      </svg>
    );
  };
}

export const FleetIcon = icon(<path d="M4 5h7v6H4zM13 5h7v6h-7zM4 13h7v6H4zM13 13h7v6h-7z" />);
export const DecisionIcon = icon(<path d="M12 4v5m0 0L5 16v4m7-11 7 7v4M9 6l3-3 3 3" />);
export const RolloutIcon = icon(<path d="M3 19h4v-4h5v-5h5V5h4M17 5h4v4" />);
export const WhatIfIcon = icon(<path d="M5 4v7m0 4v5M12 4v3m0 4v9M19 4v9m0 4v3M2.5 13h5M9.500 9h5M16.500 15h5" />);
export const ForecastIcon = icon(<path d="M3 17c4 0 5-8 9-8 3 0 4 4 9-4M12 20c3-1 5-2 9-2" />);
export const SystemIcon = icon(<path d="M3 12h4l3-8 4 16 3-8h4" />);
export const PoolIcon = icon(
  <>
    <ellipse cx="12" cy="6" rx="8" ry="3" />
    <path d="M4 6v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3" />
  </>,
);
export const NodeIcon = icon(<path d="M4 4h16v7H4zM4 13h16v7H4zM8 7.5h.01M8 16.5h.01M12 7.5h4M12 16.5h4" />);
export const SearchIcon = icon(
  <>
    <circle cx="11" cy="11" r="6.5" />
    <path d="m20 20-4.2-4.2" />
  </>,
);
export const SunIcon = icon(
  <>
    <circle cx="12" cy="12" r="4" />
    <path d="M12 2v2M12 20v2M2 12h2M20 12h2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4" />
  </>,
);
export const MoonIcon = icon(<path d="M20 14.5A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.5z" />);
export const ScreenIcon = icon(<path d="M3 5h18v11H3zM9 20h6M12 16v4" />);
export const CheckIcon = icon(<path d="m5 12.5 4.5 4.5L19 7.5" />);
export const CrossIcon = icon(<path d="M6 6l12 12M18 6 6 18" />);
export const WarnIcon = icon(<path d="M12 4 2.8 20h18.4zM12 10v4.5M12 17.3v.1" />);
export const InfoIcon = icon(
  <>
    <circle cx="12" cy="12" r="9" />
    <path d="M12 11v5.5M12 7.6v.1" />
  </>,
);
export const ClockIcon = icon(
  <>
    <circle cx="12" cy="12" r="9" />
    <path d="M12 7v5l3.5 2" />
  </>,
);
export const PauseIcon = icon(<path d="M8 5v14M16 5v14" />);
export const PlayIcon = icon(<path d="M7 4.5v15l12-7.5z" />);
export const BackIcon = icon(<path d="M4 10h11a5 5 0 0 1 0 10h-4M4 10l5-5M4 10l5 5" />);
export const ArrowIcon = icon(<path d="M4 12h16m-6-6 6 6-6 6" />);
export const StopIcon = icon(<path d="M6 6h12v12H6z" />);
export const SnowIcon = icon(
  <path d="M12 2.5v19M3.8 7.2l16.4 9.6M20.2 7.2 3.8 16.8M9 4l3 2.5L15 4M9 20l3-2.5 3 2.5" />,
);
export const TableIcon = icon(<path d="M3 5h18v14H3zM3 10h18M3 14.5h18M9 10v9" />);
export const ChartIcon = icon(<path d="M4 4v16h16M7.5 15l3.5-5 3.5 3 4.5-7" />);
export const DriftIcon = icon(<path d="M3 8c4-4 6 4 10 0 2-2 4-1.500 5 0M3 16c4-4 6 4 10 0 2-2 4-1.500 5 0" />);
export const LinkIcon = icon(
  <path d="M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.700-5.700L12 7M14 10a4 4 0 0 0-6-.4l-3 3a4 4 0 0 0 5.700 5.700L12 17" />,
);
export const SpinIcon = icon(<path d="M20 12a8 8 0 1 1-3-6.200M20 3v4h-4" />);
export const PowerIcon = icon(<path d="M12 3v8M6.500 6.500a8 8 0 1 0 11 0" />);
export const KeyboardIcon = icon(<path d="M2.500 6h19v12h-19zM6 10h.01M10 10h.01M14 10h.01M18 10h.01M7 14h10" />);
export const PersonIcon = icon(
  <>
    <circle cx="12" cy="8" r="4" />
    <path d="M4.500 20c1-4 4-5.500 7.500-5.500s6.500 1.500 7.500 5.500" />
  </>,
);
export const CopyIcon = icon(<path d="M9 9h11v11H9zM5 15H4V4h11v1" />);
export const DotsIcon = icon(<path d="M5 12h.01M12 12h.01M19 12h.01" />);
export const KeyIcon = icon(
  <>
    <circle cx="8" cy="15" r="4" />
    <path d="m11 12 8.500-8.500M16 7l3 3" />
  </>,
);
